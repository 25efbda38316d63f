import os

# Compiling costs seconds per graph; tests that are about compiled graphs switch it on.
os.environ.setdefault("STEP_AHSAR_COMPILE", "0")
