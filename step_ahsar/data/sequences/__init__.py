"""Series: pixel by pixel, spikes of an artificial cochlea, spoken words, and whatever channels over time."""
