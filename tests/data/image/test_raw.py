import torch

from byol.data.image.preprocessing import Preprocessing
from byol.data.image.raw import RawPixels


def test_raw_pixels_are_means_of_squares_without_the_mean_of_the_image() -> None:
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    means = images.reshape(2, 3, 16, 2, 16, 2).mean(dim=(3, 5)).flatten(1)
    expected = means - means.mean(dim=1, keepdim=True)
    # Sums of four and of 768 numbers in another order, in float64.
    torch.testing.assert_close(RawPixels()(images), expected, rtol=0, atol=1e-14)


def test_a_preprocessing_knows_what_its_encoders_have_to_beat() -> None:
    plain = Preprocessing(size=32, mean=(0.5,), std=(0.5,)).unnormalized()
    beaten = plain.unlearned()
    assert [one.name for one in beaten] == ["raw pixels", "histograms"]
    assert [one.encoder(plain.sample()).shape for one in beaten] == [(2, 256), (2, 160)]
    noise = plain.noise(3)
    assert (len(noise), noise.size(0)) == (3, (32, 32))
    assert torch.equal(noise.images, plain.noise(3).images)
