"""A page for musicians: a session goes in by the browser, a mix comes out and is listened to there."""
