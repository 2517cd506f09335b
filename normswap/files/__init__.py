"""Files that are whole or not there, and what is not left behind, however a process ends."""
