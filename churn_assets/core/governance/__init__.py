"""Promotion policies, and the audit log of every decision."""
