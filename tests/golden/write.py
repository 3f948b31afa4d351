"""Write the transcripts of all worlds anew, after a change of what happens in one that was meant."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from golden.transcripts import GOLDEN, golden_transcript
from test_environments import WORLDS

if __name__ == "__main__":
    for name, make in WORLDS.items():
        transcript = golden_transcript(make())
        steps = ",\n".join(f"  {json.dumps(step)}" for step in transcript.pop("steps"))
        head = json.dumps(transcript)[:-1]
        (GOLDEN / f"{name}.json").write_text(f'{head}, "steps": [\n{steps}\n]}}\n')
        print("wrote", name)
