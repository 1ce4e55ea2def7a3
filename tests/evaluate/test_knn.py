import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from byol.data.images import Packed
from byol.evaluate.features import pixels
from byol.evaluate.knn import knn_scores, knn_top1, top1
from byol.run.errors import UserError


def random_set(
    seed: int, count: int = 200, dim: int = 16, classes: int = 5
) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=random)
    return torch.randn(count, dim, generator=random) + labels[:, None], labels


@pytest.mark.parametrize("chunk", [7, 1024])
def test_votes_equal_those_of_scikit_learn(chunk: int) -> None:
    bank, labels = random_set(0)
    queries, _ = random_set(1, count=50)
    ours = knn_scores(bank, labels, queries, 5, k=20, temperature=0.07, chunk=chunk)
    oracle = KNeighborsClassifier(
        n_neighbors=20, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
    ).fit(bank.double().numpy(), labels.numpy())
    theirs = oracle.predict_proba(queries.double().numpy())
    # Ours in float32, an exponent of cosine / 0.07 multiplies its rounding by 14.
    np.testing.assert_allclose((ours / ours.sum(1, keepdim=True)).numpy(), theirs, atol=1e-5)
    assert (ours.argmax(1).numpy() == theirs.argmax(1)).all()


def test_leave_one_out_never_lets_an_image_vote_for_itself() -> None:
    bank, _ = random_set(0, count=30)
    labels = torch.arange(30) % 3
    alone = knn_scores(bank, labels, bank, 3, k=1, leave_one_out=True, chunk=8)
    cosine = torch.nn.functional.normalize(bank, dim=1) @ torch.nn.functional.normalize(bank, dim=1).T
    cosine.fill_diagonal_(-2)
    assert torch.equal(alone.argmax(1), labels[cosine.argmax(1)])
    assert top1(knn_scores(bank, labels, bank, 3, k=1), labels) == 100.0


def test_scaling_features_changes_nothing() -> None:
    bank, labels = random_set(0)
    queries, _ = random_set(1)
    torch.testing.assert_close(
        knn_scores(bank, labels, queries, 5), knn_scores(8 * bank, labels, 0.5 * queries, 5)
    )


def test_more_neighbours_than_images_is_refused_with_the_limit() -> None:
    bank, labels = random_set(0, count=10)
    with pytest.raises(UserError, match=r"k is 20, but 10 labelled images"):
        knn_scores(bank, labels, bank, 5)
    with pytest.raises(UserError, match=r"k is 10, but 9"):
        knn_scores(bank, labels, bank, 5, k=10, leave_one_out=True)


def test_accuracy_of_an_image_set_needs_labels_and_uses_them() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = torch.from_numpy(random.integers(0, 40, (40, 3, 16, 16), dtype=np.uint8))
    images[labels == 0, :, 8:] += 100  # the first class is bright below, the second above
    images[labels == 1, :, :8] += 100
    train = Packed(images[:30], labels[:30], ("a", "b"))
    test = Packed(images[30:], labels[30:], ("a", "b"))
    assert knn_top1(pixels, train, test, 16, k=5) == 100.0
    assert knn_top1(pixels, train, None, 16, k=5) == 100.0
    with pytest.raises(UserError, match="labels"):
        knn_top1(pixels, Packed(images), None, 16)
