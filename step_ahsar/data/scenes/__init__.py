"""What is segmented and detected: pictures with boxes and masks, from disk or made of digits."""
