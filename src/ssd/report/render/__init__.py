"""What every report is drawn on: its document, and that as Markdown, HTML and figures."""
