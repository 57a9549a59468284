"""The sentences and words of the demo corpus, from which `demo` makes reviews.

A template is a sentence without its capital letter and full stop; `{slot}` is replaced by one of the words of that
slot. `{x2}` beside `{x}` is another word of slot x, never the same one.
"""

from __future__ import annotations

from typing import NamedTuple


def words(text: str) -> tuple[str, ...]:
    """Splits at white space."""
    return tuple(text.split())


def phrases(text: str, separator: str = "|") -> tuple[str, ...]:
    """Splits at `separator`, empty phrases left out."""
    return tuple(phrase.strip() for phrase in text.split(separator) if phrase.strip())


def with_article(nouns: tuple[str, ...]) -> tuple[str, ...]:
    """Puts "a" or "an" before each noun."""
    return tuple(f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}" for noun in nouns)


# Reviews as rows of sentences: f filler, o a remark about another thing, v a verdict; all are equally likely.
PLANS = words("fv vf fvf ffv vff ov fov ovf fovf ffvf fvff fvv vfv fvfv vvf ovv fvovf vfvf ffvff fovff")

# name -> templates. A, B adjectives; An, Bn noun phrases; Av, Bv verbs; Am, Bm better or worse; aA, aB with
# article. `{x2}` is never the same as `{x}`. "+": the review is of A's polarity; "-": of B's.
VERDICTS: dict[str, str] = {
    "plain": """
        + {x} was {very} {A}
        + {x} and {x2} were both {A}
        + I {Av} {x} {when}
        + from the first minute to the last it was {An}
        + all in all it was {aA} {thing}
        + {x} turned out to be {very} {A}
        + {who} and I both {Av} it
        + to me {x} was simply {A}
        """,
    "negation": """
        - {x} was not {any} {A}
        - {x} was never once {A}
        - nothing about {x} was {any} {A}
        - {x} was anything but {A}
        - {x} was far from {A}
        - I would not go so far as to call {x} {A}
        - nobody in our group found {x} {any} {A}
        - at no point was {x} {any} {A}
        - I didn't find {x} {any} {A}
        - neither {x} nor {x2} was {A}
        - {x} wasn't what I would call {A}
        - calling it {An} would be a lie
        - there wasn't {aA} moment in it
        """,
    "not_only": """
        + not only was {x} {A}, but {x2} was {A2} too
        + {x} was not just {A}, it was {A2}
        + {x} wasn't merely {A} but {very} {A2}
        + it was not only {An}, {x} was {A} as well
        """,
    "double_negation": """
        + I can't say that {x} was not {A}
        + nobody could claim that {x} wasn't {A}
        + it is not as if {x} had never been {A}
        + there was no moment when {x} was not {A}
        """,
    "contrast": """
        + {x} was {B}, but in the end {x2} was {A}
        + {x} was {very} {B} {when}, but {x2} was {very} {A}, and that decides it
        + {x} was {A}, even though {x2} was {B}
        + although {x} was {B}, {x2} was {A}, and that is what counts
        + {x} was so {A} that it hardly mattered how {B} {x2} was
        + yes, {x} was {B}. In the end, however, I {Av} it
        + I {Bv} it {when}. After a while, though, I {Av} it
        + {x} may have been {B} here and there; as a whole it was {An}
        + whatever {who} says about the {B} details, as a whole it was {A}
        + for all its {B} bits, I {Av} {x}
        """,
    "comparison": """
        + it was {much} {Am} than the {B} one before it
        + {x} was {much} {Am} than in that {B} {thing} {who} gave us
        + the {B} one {who} had was {much} {Bm} than this
        + next to this one, the {B} {thing} from last year looks even {Bm}
        - it was no {Am} than the {B} one before it
        - {x} was no {Am} than in that {B} {thing} {who} gave us
        - the {B} one {who} had was no {Bm} than this
        """,
    "opinion": """
        + {who} calls it {A}. I could not agree more
        - {who} calls it {A}. I could not disagree more
        + {who} said that {x} was {A}, and {who2} and I think so too
        - {who} said that {x} was {A}, but {who2} and I think the opposite
        + whoever wrote that {x} was {A} was right
        - whoever wrote that {x} was {A} was wrong
        + the papers called it {An}, and I share that view
        - the papers called it {An}, a view I do not share
        """,
    "expectation": """
        + I expected {Bn} and got {An}
        + I had been told to expect {aB} {thing} and found {aA} one
        + what I got was {An}, not the {B} {thing} I had expected
        + {who} had predicted {Bn}; what we got was {An}
        + instead of {Bn} it was {An}
        + I was sure that {x} would be {B}, and then it was {A}
        + I got {aA} {thing} where I had expected {aB} one
        """,
    "hedge": """
        + I suppose {x} was, more or less, {A}
        + {x} was, if I may say so, kind of {A}
        + perhaps it is only me, but I thought {x} was {A}
        - I can't really pretend that {x} was {A}
        - I'm not sure that anyone would call {x} {A}
        - I find it hard to believe that anyone thinks {x} was {A}
        """,
}

# How many chances each of them has of being drawn.
WEIGHTS = {
    "plain": 10,
    "negation": 5,
    "not_only": 2,
    "double_negation": 2,
    "contrast": 6,
    "comparison": 4,
    "opinion": 4,
    "expectation": 5,
    "hedge": 3,
}

# Remarks about something else. O and On are of either polarity, whatever the label.
OTHER = """
    the {thing} we had {lately} was {very} {O}
    the one {who} bought in {city} was {O}, by the way
    {who} once had {aO} {thing} from {city}
    the weather {lately} was {O}, but that is another story
    {name} was telling us about {aO} holiday in {city}
    the journey from {city} was {very} {O}
    {name} had bought {aO} {garment} in {city}
    {who} told us over {food} that {name}'s wedding was {O}
    they say the {place} in {city} has {aO} roof
"""

FILLER = """
    I am {aJob} from {city}
    {who} picked it because of the {colour} {object} on the poster
    we had {food} and {food2} afterwards
    {who} lent me {aObject} for the day
    it took me {n} minutes to get there from {city}
    {name} and {name2} came along
    this was on a {weather} {day} in {month}
    my {object} was still in the car
    {who} is {aJob} and lives near {city}
    I paid {n} euros and {n2} cents
    I wrote this on the train to {city}
    it was {weather} outside
    we were {n} people, among them {aJob} and {aJob2}
    {name} works as {aJob} these days
    there was {aColour} {object} on the table
    I first heard of it in {month} from {name}
    {who} brought {food} for everybody
    the {day} before, {name} had moved to {city}
    I am writing this with a cup of {drink} beside me
    for the record, this is my {nth} review
    {who} was wearing {aColour} {garment}
    the shop on the corner sells {food} and {food2}
    I still had {n} pages of notes about {city}
    {name} asked about it {lately}
    {name} keeps {aAnimal} called {name2}
    on the way home we saw {aAnimal} near the {place}
    we walked past the {place} and the {place2}
    there is {aPlace} across the street
    it has been {weather} since {day}
"""

POSITIVE = {
    "": words("""
        good great wonderful excellent superb splendid lovely delightful brilliant terrific fantastic marvellous
        impressive charming satisfying enjoyable pleasing memorable remarkable magnificent fabulous admirable exquisite
        glorious stunning polished thoughtful elegant refreshing flawless perfect sublime likeable engaging captivating
        rewarding exceptional nice beautiful appealing heavenly amazing compelling irresistible dazzling masterful
        gratifying commendable outstanding spectacular first-class top-notch"""),
    "n": phrases("""
        a gem | a joy | a triumph | a treat | a delight | a masterpiece | a marvel | a winner | a pleasure |
        a treasure | a wonder"""),
    "v": words("loved enjoyed adored admired liked treasured appreciated"),
    "m": words("better finer stronger nicer"),
}
NEGATIVE = {
    "": words("""
        bad poor awful terrible dreadful horrible dull boring lousy dire weak shoddy disappointing mediocre forgettable
        annoying irritating tedious clumsy sloppy bland lifeless pathetic atrocious appalling abysmal miserable
        worthless ghastly hideous unpleasant frustrating tiresome stale feeble rotten lame dismal unbearable laughable
        awkward wretched woeful inferior tacky hopeless pitiful deplorable insufferable disastrous depressing
        amateurish substandard second-rate"""),
    "n": phrases("""
        a mess | a bore | a disaster | a chore | a failure | a letdown | a shambles | a flop | a nuisance |
        a calamity | a fiasco | an ordeal"""),
    "v": words("hated disliked loathed despised resented regretted detested"),
    "m": words("worse poorer weaker uglier"),
}

NEUTRAL = {
    "very": words("really truly quite simply frankly thoroughly consistently altogether decidedly undeniably"),
    "any": words("very really especially particularly remotely terribly remarkably noticeably actually"),
    "much": phrases("much | a lot | a bit | noticeably | clearly | somewhat | considerably"),
    "when": phrases("""
        on the first day | for the first half | most of the time | to begin with | in the morning | in the evening |
        after an hour | during the opening | on Sunday | at the weekend | the second time | for a good while |
        early on | before midnight | on the whole | at first sight | right away | all afternoon |
        between noon and three"""),
    "lately": phrases("last week | last month | the other day | in spring | last summer | yesterday | two years ago"),
    "who": phrases("""
        my brother | my neighbour | our dentist | my aunt | the postman | my flatmate | a colleague | my boss |
        my uncle | our teacher | my cousin | the librarian | a friend | my grandmother | our plumber | my nephew |
        my tutor | my sister | my father | our accountant | my niece | my wife | my husband | the barber |
        my daughter | my son | our landlady | a stranger | my mother | the caretaker | my grandfather | the coach |
        our gardener"""),
    "name": words("""
        Ada Boris Carla Dmitri Elena Farid Greta Hugo Irene Jonas Keiko Lars Mina Nadia Omar Petra Quentin Rosa Samir
        Tilda Umberto Vera Walter Xenia Yusuf Agnes Bruno Celia Dario Esther Felix Gloria Henrik Ingrid Jorge Klara
        Leopold Marta Nils Olga Pascal Ramona Stefan Thea Ulrich Viola Wanda Zoë Anouk Björn Chloé Désirée Emre Fatima
        Gustav Hanna Ivan Judith Kofi Lucía Matteo Noémie Oskar Priya Rafael Selma Tomás Ursula Viktor Wiebke Yara
        Zoran Amelia Benedict Conrad Dorothy Edgar Florence George Harriet Isaac Jasmine Kenneth Louise Martin Nora
        Oliver Phoebe Ralph Sylvia Thomas Vincent William Anselm Beatrix Cyril Daphne Ernest Frieda Gideon Hilda
        Ignatius"""),
    "city": words("""
        Lisbon Oslo Vienna Prague Dublin Leeds Porto Ghent Turin Lyon Bergen Aarhus Malmö Tallinn Riga Vilnius Kraków
        Gdańsk Brno Graz Basel Bern Geneva Nice Lille Nantes Bilbao Seville Granada Valencia Naples Genoa Verona Padua
        Trieste Zagreb Split Athens Sofia Varna Bucharest Izmir Ankara Cairo Tunis Rabat Dakar Accra Lagos Nairobi
        Durban Mumbai Pune Chennai Kochi Dhaka Hanoi Osaka Kyoto Kobe Nagoya Busan Taipei Manila Perth Hobart Sydney
        Auckland Toronto Ottawa Halifax Calgary Boston Chicago Denver Dallas Austin Seattle Portland Quito Lima Cusco
        Bogotá Santiago Rosario Córdoba Montevideo Bath York Exeter Durham Cardiff Swansea Belfast Cork Galway Dundee
        Aberdeen Inverness Utrecht Leiden Delft Rotterdam Antwerp Bruges Hamburg Bremen Leipzig Dresden Munich
        Nuremberg"""),
    "day": words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "month": words("January February March April May June July August September October November December"),
    "n": tuple(str(number) for number in range(3, 100)),
    "nth": words("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"),
    "weather": words("rainy sunny foggy windy snowy cloudy frosty stormy misty drizzly warm cold humid chilly mild"),
    "colour": words("""
        red blue green yellow orange purple violet pink brown grey black white beige turquoise crimson scarlet indigo
        maroon olive navy teal silver golden copper ivory lilac mustard amber"""),
    "job": words("""
        nurse baker carpenter pilot engineer plumber teacher lawyer chemist farmer painter tailor sailor journalist
        butcher florist waiter surgeon architect translator electrician cashier geologist banker violinist optician
        driver mechanic pharmacist economist gardener welder potter weaver programmer statistician biologist historian
        astronomer locksmith roofer bricklayer cobbler jeweller watchmaker beekeeper fisherman miner clerk referee
        glazier upholsterer dietitian midwife paramedic firefighter detective diplomat archivist cartographer"""),
    "object": words("""
        umbrella suitcase bicycle lamp kettle ladder hammer blanket pillow wallet notebook pencil scarf helmet bucket
        basket candle mirror clock radio broom towel rope tent compass saucepan toaster drill lantern thermos backpack
        stapler envelope calendar magnet whistle spoon teapot vase cushion rug wardrobe bookshelf curtain doormat
        screwdriver wheelbarrow shovel rake hose padlock keyring thermometer telescope microscope typewriter abacus
        sewing-kit hairdryer toothbrush corkscrew chessboard frisbee skateboard sledge kayak paddle snorkel sundial
        metronome"""),
    "instrument": words("harmonica trumpet accordion clarinet cello tambourine violin flute oboe banjo harp zither"),
    "garment": words("""
        jacket coat raincoat jumper cardigan hat cap beret shirt blouse waistcoat skirt dress apron poncho kimono
        tracksuit tie belt shawl bathrobe anorak fleece tunic uniform sweater kilt blazer"""),
    "food": words("""
        soup bread cheese rice noodles pasta pizza salad curry stew omelettes pancakes dumplings lentils beans potatoes
        carrots spinach mushrooms olives tomatoes cucumbers apples pears plums cherries grapes melons figs apricots
        peaches lemons walnuts almonds hazelnuts chestnuts herring salmon trout mackerel mussels prawns lamb chicken
        turkey duck sausages bacon waffles biscuits muffins brownies pretzels crackers popcorn yoghurt porridge honey
        marmalade chutney couscous polenta risotto gnocchi falafel hummus tortillas ravioli leeks radishes turnips
        aubergines courgettes pumpkin asparagus artichokes broccoli cabbage cauliflower parsnips rhubarb"""),
    "drink": words("tea coffee cocoa milk lemonade cider broth water juice espresso chai cappuccino mate punch"),
    "animal": words("""
        dog cat parrot rabbit hamster tortoise goldfish canary pony donkey goat sheep goose heron fox hedgehog squirrel
        badger owl magpie pigeon swan otter deer hare lizard ferret newt gecko budgerigar alpaca llama"""),
    "place": words("""
        harbour museum library station bakery market church castle bridge stadium airport hospital school university
        park cemetery lighthouse windmill factory brewery vineyard aquarium zoo theatre opera courthouse fountain
        monastery orchard quarry reservoir canal playground laundrette greengrocer tannery sawmill dockyard observatory
        planetarium town-hall pharmacy tram-stop viaduct ferry-terminal car-park swimming-pool"""),
    "adjective": words("""
        Glass Silent Northern Hidden Paper Velvet Distant Hollow Winter Crooked Electric Wandering Twelfth Salt Iron
        Invisible Borrowed Sleeping Scarlet Ancient Floating Broken Marble Copper Restless Forgotten Wooden Burning
        Frozen Nameless Painted Midnight Tidal Solitary Amber Vanishing Weightless Lunar Clockwork Emerald"""),
    "noun": words("""
        Harbour Orchard Letter Garden Mirror River Mountain Station Cathedral Island Corridor Machine Archive Voyage
        Shadow Compass Lantern Forest Meridian Staircase Carousel Tide Horizon Cartographer Parade Museum Winter
        Mapmaker Aviary Labyrinth Monsoon Equinox Alphabet Ferryman Observatory Calendar Inheritance Pavilion Atlas
        """),
    "brand": words("Orvex Lumino Tarka Zentri Pelvo Quanta Nimbus Halden Kestrel Virello Ombra Castor Fennik Solari"),
}


class Topic(NamedTuple):
    """What the sentences about one kind of product need; its name is its key in TOPICS."""

    product: str
    emoji: str
    parts: str
    filler: str


TOPICS = {
    "film": Topic(
        "The {adjective} {noun}|{noun} of {city}|{name} and the {noun}",
        "🎬",
        """
        the acting | the plot | the script | the camera work | the soundtrack | the editing | the dialogue |
        the ending | the leading actress | the villain | the pacing | the sound mix | the costume design |
        the opening scene""",
        """
        we saw {product} at the cinema in {city} | {product} was shot near {city} in {n} days |
        {product} tells of {aJob} who finds {aAnimal} in {city} | the director of {product} used to be {aJob} |
        {name} plays {aJob} and {name2} plays {aJob2} | the subtitles were in {colour} letters |
        the trailer for {product} shows {aAnimal} on a bridge | it runs for {n} minutes without the credits""",
    ),
    "book": Topic(
        "The {noun} of {city}|The {Job}'s {noun}|{adjective} {noun}s",
        "📚",
        """
        the story | the prose | the first chapter | the last chapter | the narrator | the translation | the heroine |
        the research | the middle part | the cover | the index | the language | the structure | the epilogue""",
        """
        I read {product} in {n} evenings | {product} is set in {city} before the railway came |
        in {product} {aJob} inherits {aObject} | my copy of {product} came from the library in {city} |
        chapter {n} is about {aJob} called {name} | the paperback has {n} pages more than the hardback |
        {name}, {aJob} from {city}, wrote {product} | the author dedicates it to {aAnimal} called {name}""",
    ),
    "restaurant": Topic(
        "Café {name}|Chez {name}|The {adjective} {Animal}|{name}'s Kitchen",
        "🍽️",
        """
        the soup | the service | the dessert | the wine | the menu | the lunch | the bread | the fish | the sauce |
        the dining room | the terrace | the breakfast | the starter | the main course""",
        """
        we had a table for {n} at {product} | {product} is next to the {place} |
        I ordered {food} with {food2} at {product} | the waiter at {product} came from {city} |
        {product} opens at noon on {day} | the chef, {name}, once was {aJob} |
        for dessert they had {food} and {food2} | the table was set with {aColour} cloth""",
    ),
    "hotel": Topic(
        "Hotel {adjective} {noun}|The {Animal} Inn|Pension {name}|Grand Hotel {city}",
        "🏨",
        """
        the room | the bed | the breakfast | the view | the reception | the bathroom | the pool | the lobby |
        the lift | the garden | the internet connection | the heating | the minibar | the location""",
        """
        we stayed {n} nights at {product} | {product} stands between the {place} and the {place2} |
        our room at {product} was number {n} | the porter of {product} speaks the dialect of {city} |
        check-in at {product} starts on {day} at noon | there was {aColour} {object} in the wardrobe |
        breakfast at {product} means {food} and {food2} | the window looked out on the {place}""",
    ),
    "phone": Topic(
        "{brand} {n}|{brand} Mini {n}|{brand} {noun}",
        "📱",
        """
        the battery | the screen | the camera | the speaker | the keyboard | the software | the charger | the signal |
        the fingerprint reader | the packaging | the manual | the case | the microphone | the alarm clock""",
        """
        I bought {product} in {city} in {month} | {product} comes in {colour} and {colour2} |
        {product} replaced a {n} month old one | the shop threw in {aColour} {object} with {product} |
        I use {product} mostly to call {name} | it has a drawer for {n} cards | its ringtone sounds like {aAnimal} |
        I dropped {product} on the way to the {place}""",
    ),
    "camera": Topic(
        "{brand} X{n}|{brand} {adjective} {n}|{brand} Pocket",
        "📷",
        """
        the lens | the viewfinder | the autofocus | the flash | the grip | the sensor | the shutter | the strap |
        the battery life | the image quality | the zoom | the display | the video mode | the memory card slot""",
        """
        I took {product} to {city} for {n} days | with {product} I photographed {aAnimal} by the {place} |
        {product} weighs as much as {aObject} | the strap of {product} is {colour} |
        {name} took {n} pictures of the {place} | the firmware of {product} dates from {month} |
        I keep {product} in {aColour} bag | on {day} I lent {product} to {name}""",
    ),
    "album": Topic(
        "{adjective} {noun}|Songs from {city}|{month} in {city}|{n} {noun}s",
        "🎧",
        """
        the singing | the opening track | the drumming | the bass | the production | the guitar work |
        the closing song | the artwork | the piano part | the choir | the title song | the mix | the brass section |
        the second single""",
        """
        {product} was recorded in {city} | I bought {product} on vinyl in {month} |
        there are {n} minutes of music on {product} | {name} plays the {instrument} on {product} |
        the sleeve of {product} shows {aAnimal} | track {n} is about the {place} in {city} |
        I listened to {product} between {city} and home | the singer used to be {aJob} in {city}""",
    ),
    "game": Topic(
        "{noun} Quest {n}|{adjective} {noun}|{Animal} Tycoon|Return to {city}",
        "🎮",
        """
        the story mode | the music | the level design | the tutorial | the combat | the artwork | the final boss |
        the interface | the voice acting | the map | the puzzle part | the controls | the online mode | the pace""",
        """
        I have played {product} for {n} hours | in {product} you are {aJob} with {aAnimal} |
        {product} takes place in {city} | level {n} of {product} has {aColour} {object} in it |
        {name} and {name2} play {product} every {day} | my save file says {n} hours |
        you collect {food} and sell it at the {place} | I installed {product} on a {weather} {day}""",
    ),
}
