"""What makes the documentation's site: pages that are generated, and pictures. Not in the wheel."""
