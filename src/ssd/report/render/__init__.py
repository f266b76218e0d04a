"""What all reports share: the document, and its form as Markdown, HTML and figures."""
