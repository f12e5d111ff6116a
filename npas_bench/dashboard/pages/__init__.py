"""The pages of the dashboard, one module each, and the app that lists them."""
