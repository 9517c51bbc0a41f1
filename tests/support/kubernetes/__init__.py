"""What tests on Kubernetes share: the cluster, deployments, pods, registries of images."""
