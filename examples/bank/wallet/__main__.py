"""`python -m wallet`: the wallet service, where its sidecar expects it."""

from rempart.sdk import serve

from .app import application

if __name__ == "__main__":
    serve(application())
