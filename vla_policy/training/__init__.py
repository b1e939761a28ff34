"""Training: one loop, its schedule, augmentation and checkpoints."""
