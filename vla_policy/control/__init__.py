"""What stands between a policy and a robot, free of ROS: robot file, alignment, chunk execution, safety."""
