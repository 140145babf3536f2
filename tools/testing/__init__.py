"""What several parts' tests share: real servers on loopback."""
