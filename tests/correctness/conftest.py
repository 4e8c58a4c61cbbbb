"""How long one generated example takes says nothing on a machine that also runs ranks."""

import hypothesis

hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")
