"""gunicorn's settings for the page: one process with eight threads, as `stocksync web` and the Procfile run it."""

import os

bind = f"{os.environ.get('HOST', '0.0.0.0')}:{os.environ.get('PORT', '8000')}"
worker_class = "gthread"
workers = 1
threads = 8
graceful_timeout = 8
accesslog = "-"
control_socket_disable = True
