"""The pack's folders are known to the host in this process, as after its start."""

import pytest


@pytest.fixture(scope="package", autouse=True)
def folders():
    pytest.importorskip("folder_paths", reason="no ComfyUI checkout")
    from personalize.host.folders import register_folders

    register_folders()
