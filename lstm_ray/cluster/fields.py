"""Names and types of fields, by which a slip of the pen is known even where there is no schema to ask.

The types are JSON Schema's; None where a rule says more of the value than a type does.
"""

CLUSTER: dict[str, str | None] = {
    "authOptions": "object",
    "autoscalerOptions": "object",
    "enableInTreeAutoscaling": "boolean",
    "gcsFaultToleranceOptions": "object",
    "headGroupSpec": "object",
    "headServiceAnnotations": "object",
    "historyServerOptions": "object",
    "managedBy": None,
    "networkPolicy": "object",
    "rayVersion": None,
    "suspend": "boolean",
    "tlsOptions": "object",
    "upgradeStrategy": "object",
    "workerGroupSpecs": "array",
}
"""Of a RayCluster's spec. Source: KubeRay 1.7, ray.io/v1."""

HEAD_GROUP: dict[str, str | None] = {
    "enableIngress": "boolean",
    "headService": "object",
    "ingressOptions": "object",
    "labels": "object",
    "rayStartParams": "object",
    "resources": "object",
    "serviceType": "string",
    "template": "object",
}
"""Of headGroupSpec."""

WORKER_GROUP: dict[str, str | None] = {
    "groupName": "string",
    "idleTimeoutSeconds": "integer",
    "labels": "object",
    "maxReplicas": "integer",
    "minReplicas": "integer",
    "numOfHosts": "integer",
    "priority": "integer",
    "rayStartParams": "object",
    "replicas": "integer",
    "resources": "object",
    "scaleStrategy": "object",
    "suspend": "boolean",
    "template": "object",
}
"""Of an entry of workerGroupSpecs."""

JOB: dict[str, str | None] = {
    "activeDeadlineSeconds": "integer",
    "backoffLimit": "integer",
    "clusterSelector": "object",
    "deletionStrategy": "object",
    "entrypoint": "string",
    "entrypointNumCpus": "number",
    "entrypointNumGpus": "number",
    "entrypointResources": "string",
    "jobId": "string",
    "managedBy": None,
    "metadata": "object",
    "preRunningDeadlineSeconds": "integer",
    "rayClusterSpec": "object",
    "runtimeEnvYAML": "string",
    "shutdownAfterJobFinishes": "boolean",
    "submissionMode": None,
    "submitterConfig": "object",
    "submitterPodTemplate": "object",
    "suspend": "boolean",
    "ttlSecondsAfterFinished": "integer",
}
"""Of a RayJob's spec."""

EC2 = (
    "AdditionalInfo",
    "BlockDeviceMappings",
    "CapacityReservationSpecification",
    "CpuOptions",
    "CreditSpecification",
    "DisableApiStop",
    "DisableApiTermination",
    "EbsOptimized",
    "ElasticGpuSpecification",
    "ElasticInferenceAccelerators",
    "EnablePrimaryIpv6",
    "EnclaveOptions",
    "HibernationOptions",
    "IamInstanceProfile",
    "ImageId",
    "InstanceInitiatedShutdownBehavior",
    "InstanceMarketOptions",
    "InstanceType",
    "Ipv6AddressCount",
    "Ipv6Addresses",
    "KernelId",
    "KeyName",
    "LaunchTemplate",
    "LicenseSpecifications",
    "MaintenanceOptions",
    "MaxCount",
    "MetadataOptions",
    "MinCount",
    "Monitoring",
    "NetworkInterfaces",
    "NetworkPerformanceOptions",
    "Operator",
    "Placement",
    "PrivateDnsNameOptions",
    "PrivateIpAddress",
    "RamdiskId",
    "SecurityGroupIds",
    "SecurityGroups",
    "SubnetId",
    "SubnetIds",
    "TagSpecifications",
    "UserData",
)
"""Of node_config on AWS. Source: EC2 RunInstances, and SubnetIds, which Ray adds."""
