"""The program's examination of itself: planted differences, planted faults, known answers."""
