"""What people read: statistics, columns, verdicts, tables, comparisons and exports."""
