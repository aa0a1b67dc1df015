"""A Matrix homeserver (Synapse) that ends with the test that started it: as soon as its standard input is closed."""

import os
import sys
import threading

from synapse.app.homeserver import main


def end_with_the_test():
    sys.stdin.buffer.read()
    os._exit(1)


threading.Thread(target=end_with_the_test, daemon=True).start()
main()
