"""What operators and jobs agree on: exit codes, lines of a log, places, addresses. Standard library only."""
