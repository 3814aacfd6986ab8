"""Many sessions: finding them below a folder or in a store, mixing each, and the table and page on all mixes."""
