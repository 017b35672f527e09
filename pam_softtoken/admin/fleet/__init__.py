"""Set up a realm of many hosts: its authority, the rights in etcd, and its members."""
