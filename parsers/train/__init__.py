"""Makes the trained files of this room: the pocket spaCy pipeline."""
