"""Vision-language-action policies: the model, its training, and the control logic, free of ROS and simulators."""
