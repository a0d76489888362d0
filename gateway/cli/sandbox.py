"""`video-gateway sandbox`: the stand-in upstream alone."""

from typing import Annotated, Literal

import typer

from gateway.errors import SettingsError


def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8090,
    key: Annotated[str, typer.Option(help="The one key it accepts.")] = "sandbox-key",
    auth_scheme: Annotated[str, typer.Option(help='"Bearer", or empty for the bare key.')] = "",
    vocabulary: Annotated[Literal["apiyi", "openai"], typer.Option(help="Its words.")] = "apiyi",
    speed: Annotated[float, typer.Option(help="Seconds of its clock in a real second.")] = 1.0,
    requests: Annotated[int, typer.Option(help="Calls in one period.")] = 10,
    period: Annotated[float, typer.Option(help="Seconds of the window, by its clock.")] = 60.0,
    count: Annotated[
        Literal["arrival", "end"], typer.Option(help="When a call is counted.")
    ] = "arrival",
    concurrent: Annotated[int, typer.Option(help="Videos at once.")] = 5,
    generation: Annotated[float, typer.Option(help="Mean seconds of a video.")] = 240.0,
    spread: Annotated[float, typer.Option(help="Relative spread of that.")] = 0.15,
    ttl: Annotated[float, typer.Option(help="Seconds that content is kept.")] = 86400.0,
    latency: Annotated[
        tuple[float, float], typer.Option(help="Least and most seconds added to a call.")
    ] = (0.0, 0.0),
    fps: Annotated[int, typer.Option(help="Frames a second of its videos.")] = 8,
    seed: Annotated[int, typer.Option(help="Of every random draw.")] = 0,
) -> None:
    """Run the stand-in upstream: the provider's API, its limits, its failures, real MP4s."""
    from gateway.sandbox import SandboxSettings, serve

    try:
        settings = SandboxSettings(
            api_key=key,
            auth_scheme=auth_scheme,
            vocabulary=vocabulary,
            speed=speed,
            requests=requests,
            period=period,
            count=count,
            concurrent=concurrent,
            generation=generation,
            spread=spread,
            ttl=ttl,
            latency=latency,
            video_fps=fps,
            seed=seed,
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error
    serve(settings, host, port)
