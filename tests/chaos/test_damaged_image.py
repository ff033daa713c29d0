"""An image that is damaged in mid-run fails the same step every time: the run says which images that step's batch has."""

from __future__ import annotations

from pathlib import Path

from hpc_yolo.events import Kind
from tests.chaos.conftest import Factory, hpc_yolo
from tests.material import write_scenes


def test_a_step_that_fails_names_the_images_of_its_batch(small: Factory, tmp_path: Path) -> None:
    data = write_scenes(tmp_path / "data")
    options = tuple(it for it in small.options if not it.startswith("data.yaml="))
    run = Factory(tmp_path / "runs", (*options, f"data.yaml={data}"))("damaged")
    process = run.start()
    run.wait_for_step(1)
    for image in sorted((data.parent / "images" / "train").iterdir()):
        image.write_bytes(b"x" * image.stat().st_size)  # its size, by which a changed data set is told, stays
    assert process.wait(60) == 70

    (failed,) = run.events(Kind.FAILED)
    images = failed.fields["images"]
    assert any(image in failed.fields["error"] for image in images)
    assert all(Path(image).parent == data.parent / "images" / "train" for image in images)
    assert f"the images of its batch: {images[0]}" in hpc_yolo("explain", run.path).stdout
