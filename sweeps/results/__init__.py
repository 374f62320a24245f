"""What has come out: facts of runs, statistics, rows and tables, results as data, the display."""
