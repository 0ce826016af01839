"""Who may become champion, and the audit log of every such decision."""
