"""Exports of other apps: soft tokens and password managers. One module for each app."""
