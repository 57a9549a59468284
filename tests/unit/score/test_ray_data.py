"""What scoring on Ray does around Ray Data; the scoring itself is tested in tests/integration/."""

from __future__ import annotations

import threading
import time

from lstm_ray.runtime.ray_internals import IDLE_DATA_THREAD
from lstm_ray.score.ray_data import _new_threads_ended


def test_threads_begun_meanwhile_end_before_ray_does() -> None:
    for_ever = threading.Event()
    threading.Thread(target=for_ever.wait, name="known before", daemon=True).start()
    slow = threading.Thread(target=time.sleep, args=(0.5,))
    begun = time.monotonic()
    with _new_threads_ended():
        threading.Thread(target=for_ever.wait, name=IDLE_DATA_THREAD, daemon=True).start()
        slow.start()
    assert not slow.is_alive()
    assert time.monotonic() < begun + 10, "who was known before, or is parked, is not waited for"
    for_ever.set()
