"""A Report as one HTML file: markup, axes, charts, tables and the page. See `report_html`."""
