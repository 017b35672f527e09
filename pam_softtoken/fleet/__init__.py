"""The tokens and state of a realm that many hosts share, kept in etcd."""
