"""What people and programs see: colour and tables, JSON and YAML, the plan in words, the HTML report."""
