import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch.nn import functional as F

from byol.data.image.preprocessing import Preprocessing
from byol.data.image.raw import RawPixels
from byol.data.images import InMemory
from byol.errors import UserError
from byol.evaluate.knn import knn_scores, knn_top1, nearest, top1


def random_set(
    seed: int, count: int = 200, dim: int = 16, classes: int = 5
) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=random)
    return torch.randn(count, dim, generator=random) + labels[:, None], labels


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_votes_equal_those_of_scikit_learn(dtype: torch.dtype, tolerance: float) -> None:
    bank, labels = random_set(0)
    queries, _ = random_set(1, count=50)
    ours = knn_scores(bank.to(dtype), labels, queries.to(dtype), 5, k=20, temperature=0.07)
    oracle = KNeighborsClassifier(
        n_neighbors=20, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
    ).fit(bank.double().numpy(), labels.numpy())
    theirs = oracle.predict_proba(queries.double().numpy())
    # 1e-6 is what is promised; in float32 an exponent of cosine / 0.07 multiplies its rounding, 6e-8, by 14,
    # in each of the 20 votes.
    np.testing.assert_allclose((ours / ours.sum(1, keepdim=True)).numpy(), theirs, rtol=0, atol=tolerance)
    assert (ours.argmax(1).numpy() == theirs.argmax(1)).all()


def test_leave_one_out_never_lets_an_image_vote_for_itself() -> None:
    bank, _ = random_set(0, count=30)
    labels = torch.arange(30) % 3
    alone = knn_scores(bank, labels, bank, 3, k=1, leave_one_out=True)
    cosine = torch.nn.functional.normalize(bank, dim=1) @ torch.nn.functional.normalize(bank, dim=1).T
    cosine.fill_diagonal_(-2)
    assert torch.equal(alone.argmax(1), labels[cosine.argmax(1)])
    assert top1(knn_scores(bank, labels, bank, 3, k=1), labels) == 100.0


@pytest.mark.parametrize("leave_one_out", [False, True])
@pytest.mark.parametrize(("rows", "columns"), [(1, 3), (7, 8), (64, 5), (500, 1000)])
def test_neighbours_do_not_depend_on_the_blocks(rows: int, columns: int, leave_one_out: bool) -> None:
    bank, _ = random_set(0, count=60)
    queries = bank if leave_one_out else random_set(1, count=50)[0]
    cosines, positions = nearest(
        bank.double(), queries.double(), 6, leave_one_out=leave_one_out, rows=rows, columns=columns
    )
    table = F.normalize(queries.double(), dim=1) @ F.normalize(bank.double(), dim=1).T
    if leave_one_out:
        table.fill_diagonal_(-2)
    expected = table.sort(dim=1, descending=True)
    assert torch.equal(positions, expected.indices[:, :6])  # no two cosines are equal
    torch.testing.assert_close(cosines, expected.values[:, :6], rtol=0, atol=1e-14)  # 16 products of float64


def test_an_image_votes_for_each_of_its_labels() -> None:
    bank, numbers = random_set(0)
    queries, _ = random_set(1)
    one_hot = F.one_hot(numbers, 5)
    both = torch.cat([one_hot, torch.ones(len(bank), 1, dtype=torch.int64)], dim=1)
    votes = knn_scores(bank, both, queries, 6)
    torch.testing.assert_close(votes[:, :5], knn_scores(bank, numbers, queries, 5))
    torch.testing.assert_close(votes[:, 5], votes[:, :5].sum(dim=1))


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
    plain = Preprocessing(size=16).unnormalized()
    train = InMemory(images[:30], labels[:30], ("a", "b"))
    test = InMemory(images[30:], labels[30:], ("a", "b"))
    assert knn_top1(RawPixels(), train, test, plain, k=5) == 100.0
    assert knn_top1(RawPixels(), train, None, plain, k=5) == 100.0
    with pytest.raises(UserError, match="labels"):
        knn_top1(RawPixels(), InMemory(images), None, plain)
