"""How language models are asked: engines behind one small interface, a journal of what they answered, the engine room."""
