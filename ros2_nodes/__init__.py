"""ROS 2 nodes; everything they decide is plain Python in `vla_policy.control`."""
