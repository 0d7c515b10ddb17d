"""Writers of the generated parts of these pages: each returns Markdown, from the code alone."""
