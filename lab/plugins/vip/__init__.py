"""A VIP for each cluster: an L4 balancer between a caller that knows its address and the cluster's replicas."""
