"""Jobs that somebody asks for: once more for commits that a pipeline ran on, or for others that he names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pfsd.errors import InvalidError, StateError
from ppsd.engine.pipelines import Pipeline
from ppsd.specs import inputs
from ppsd.specs.spec import PipelineSpec
from ppsd.storage.filesystem import CommitRef, FileSystem
from ppsd.storage.records import JobRecord
from ppsd.storage.registry import Registry


class Reruns:
    """Makes such jobs. `find` gives a pipeline by its name."""

    def __init__(self, find: Callable[[str], Pipeline], files: FileSystem, registry: Registry) -> None:
        self._find = find
        self._files = files
        self._registry = registry

    async def run_again(
        self, name: str, commits: Mapping[str, str], change: Callable[[PipelineSpec], PipelineSpec]
    ) -> JobRecord:
        """A new job for the last set of commits that a pipeline ran on, or with other commits for some inputs."""
        pipeline = self._startable(name)
        sources = inputs.sources(pipeline.record.spec.input)
        chosen = dict(zip(sources, pipeline.progress.heads, strict=False))
        named = {atom.name: inputs.source_of(atom) for atom in inputs.atoms(pipeline.record.spec.input)}
        for input_name, commit in commits.items():
            if input_name not in named:
                raise InvalidError(f"pipeline {name} has no input called {input_name}")
            chosen[named[input_name]] = commit
        found = []
        for source in sources:
            if source not in chosen:
                raise StateError(f"pipeline {name} has not run yet: name a commit of {source.repo}, or wait for one")
            commit_state = await self._files.inspect_commit(CommitRef(source.repo, chosen[source]))
            if not commit_state.finished:
                raise StateError(f"commit {commit_state.ref} is not finished: finish it first")
            found.append(commit_state.ref)
        return await self._request(pipeline, found, change(pipeline.record.spec))

    def _startable(self, name: str) -> Pipeline:
        pipeline = self._find(name)
        if not pipeline.runs:
            raise StateError(f"pipeline {name} does not run: start it first")
        return pipeline

    async def _request(
        self, pipeline: Pipeline, commits: Sequence[CommitRef], wanted: PipelineSpec | None = None
    ) -> JobRecord:
        job = pipeline.new_job(commits, requested=True, wanted=wanted)
        await self._registry.add_job(job)
        pipeline.notify()
        return job

    async def rerun(self, name: str, include: Sequence[CommitRef], exclude: Sequence[CommitRef]) -> None:
        """New jobs for the sets of commits that had one, as far as `include` and `exclude` want them."""
        pipeline = self._startable(name)
        wanted = {(await self._files.inspect_commit(commit)).ref.id for commit in include}
        unwanted = {(await self._files.inspect_commit(commit)).ref.id for commit in exclude}
        made = await self._registry.input_has_job(pipeline.record.id)
        repos = [source.repo for source in inputs.sources(pipeline.record.spec.input)]
        for key in sorted(made, key=made.__getitem__):
            ids = key.split("+")
            if (not include or wanted.intersection(ids)) and not unwanted.intersection(ids):
                await self._request(pipeline, [CommitRef(repo, one) for repo, one in zip(repos, ids, strict=True)])
