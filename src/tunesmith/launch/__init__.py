"""Where a run happens: in this process, or in processes that it starts."""
