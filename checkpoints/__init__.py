"""What outlives a process: runs, and analyses by content. It stores text and does not know what it means."""
