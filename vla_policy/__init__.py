"""Vision-language-action policies: the model, its training, and the control logic that runs it; free of ROS and simulators."""
