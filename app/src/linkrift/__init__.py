"""The services of the Linkrift URL shortener: api, redirect and worker, and what they share."""
