"""Meta-World MT50: the 50 manipulation tasks of `metaworld`, seen by a camera and told in words."""
