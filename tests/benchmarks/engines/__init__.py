"""The engines that are compared, one file each. What a file does not have is not measured for that engine."""
