//! Properties of what runs and edits owe, against an independent model.
