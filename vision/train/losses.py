"""What teaches the pocket CLIP: captions and their noun phrases. Nothing here sees a mask.

Shapes: B pictures, P patches, L the best of them for a phrase, K phrases of the bank, M most phrases of a caption, E
embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def patch_losses(patches_BPE: Tensor, bank_KE: Tensor, named_BM: Tensor, unknown_BK: Tensor, scale: Tensor,
                 best_BM: Tensor, thing_BM: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Phrase-level contrast at the patches, in three terms.

    Every phrase of the caption has its `best` patches, those that name it with the highest probability; they weigh
    linearly less from the first to the last. pooled: the mean logits of these patches must name the phrase, among all
    phrases of the bank; cover: so must each of them alone. The other phrases of the same caption are rivals, phrases
    that may be true are not. explain: every patch that is not among the best of a thing must be named by some phrase
    of its caption; which one, the patch decides (a partial-label likelihood). Were the best patches of the things not
    left out, the background, which is easily told, would own them.
    patches and bank: unit length. named: bank ids, -1 for none. best: 1 to P patches. thing: bool.
    Source: our choice, in the line of multiple-instance learning; docs/pocket.md says why contrast of whole captions
    is not enough.
    """
    logits_BPK = (scale.to(patches_BPE.dtype) * patches_BPE) @ bank_KE.T.to(patches_BPE.dtype)
    logits_BPK = logits_BPK.float().masked_fill(unknown_BK[:, None], -1e4)
    present_BM = named_BM >= 0
    index_BM = named_BM.clamp(min=0)
    index_BPM = index_BM[:, None].expand(-1, logits_BPK.shape[1], -1)
    named_BPM = logits_BPK.gather(2, index_BPM) - logits_BPK.logsumexp(-1, keepdim=True)  # log p(phrase | patch)
    most = int(best_BM.max())
    covers_BLM, places_BLM = named_BPM.topk(most, dim=1)
    taken_BLM = (1 - torch.arange(most, device=best_BM.device)[:, None] / best_BM[:, None]).clamp(min=0)
    claimed_BLM = (taken_BLM > 0) & (thing_BM & present_BM)[:, None]
    taken_BLM = taken_BLM / taken_BLM.sum(1, keepdim=True)
    chosen_BMLK = logits_BPK[torch.arange(len(places_BLM), device=logits_BPK.device)[:, None, None],
                             places_BLM.transpose(1, 2)]  # (B, M, L best patches, K)
    mean_BMK = (chosen_BMLK * taken_BLM.transpose(1, 2)[..., None]).sum(2)
    pooled_BM = mean_BMK.gather(2, index_BM[..., None])[..., 0] - mean_BMK.logsumexp(-1)
    cover_BM = (covers_BLM * taken_BLM).sum(1)
    named_BPM = named_BPM.masked_fill(~present_BM[:, None], -1e4)
    claims_BP = torch.zeros(logits_BPK.shape[:2], device=logits_BPK.device).scatter_add_(
        1, places_BLM.flatten(1), claimed_BLM.flatten(1).float())
    explain = -named_BPM.logsumexp(-1)[claims_BP == 0].mean()
    return -pooled_BM[present_BM].mean(), -cover_BM[present_BM].mean(), explain


def phrase_loss(image_BE: Tensor, bank_KE: Tensor, named_BM: Tensor, unknown_BK: Tensor, scale: Tensor) -> Tensor:
    """The image vector against every phrase of the bank: each phrase of the caption against all that are not true."""
    logits_BK = (scale * image_BE.float() @ bank_KE.float().T).masked_fill(unknown_BK, -1e4)
    present_BM = named_BM >= 0
    index_BM = named_BM.clamp(min=0)
    true_BK = torch.zeros_like(logits_BK).scatter_add_(1, index_BM, present_BM.float()) > 0
    false_B1 = logits_BK.masked_fill(true_BK, -1e4).logsumexp(1, keepdim=True)
    named_BM_logits = logits_BK.gather(1, index_BM)
    loss_BM = F.softplus(false_B1 - named_BM_logits)
    return loss_BM[present_BM].mean()


def caption_loss(image_BE: Tensor, text_BE: Tensor, same_BB: Tensor, scale: Tensor) -> Tensor:
    """Symmetric contrast of pictures and captions; captions with the same text are not each other's negatives."""
    logits_BB = scale * image_BE.float() @ text_BE.float().T
    others_BB = same_BB & ~torch.eye(len(same_BB), dtype=torch.bool, device=same_BB.device)
    logits_BB = logits_BB.masked_fill(others_BB, -1e4)
    target_B = torch.arange(len(logits_BB), device=logits_BB.device)
    return (F.cross_entropy(logits_BB, target_B) + F.cross_entropy(logits_BB.T, target_B)) / 2
