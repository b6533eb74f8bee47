"""``fastcnn serve``."""

from contextlib import suppress
from typing import Annotated

import typer

from fastcnn.cli.arguments import RunFolder
from fastcnn.cli.screen import Screen


def serve(
    run: RunFolder,
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="0 picks any free port.")
    ] = 8000,
    browser: Annotated[
        bool, typer.Option(help="Open the page in the browser.", show_default=False)
    ] = True,
) -> None:
    """Draw or drop a picture in the browser, and see the output of each layer of a network.

    Example: fastcnn serve RUN

    The page and its JSON endpoint can be reached from this machine only:

      curl --data-binary @digit.png -H 'Content-Type: image/png' \\
        localhost:8000/api/predict

    Ctrl-C stops the server.
    """
    import webbrowser

    from fastcnn.errors import ConfigurationError
    from fastcnn.serve import Answers, make_server
    from fastcnn.training.run import Run

    opened = Run.open(run)
    model = opened.load_model()
    answers = Answers(model, opened.classes, opened.normalisation, run.name)
    try:
        server = make_server(answers, port)
    except OSError as error:
        raise ConfigurationError(
            f"port {port} cannot be used ({error.strerror}): choose another with --port"
        ) from None
    address = f"http://127.0.0.1:{server.server_port}/"
    Screen().say(f"{run} is at {address} (Ctrl-C stops it)")
    if browser:
        webbrowser.open(address)
    with server, suppress(KeyboardInterrupt):
        server.serve_forever()
