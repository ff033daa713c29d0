"""Everything that is asked of Slurm or told to it. The commands are called here and nowhere else; parsers are pure."""
