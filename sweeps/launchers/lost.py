"""What engines of other machines raise when their scheduler is gone."""


class SchedulerLost(Exception):
    """The scheduler does not answer any more, in one line. Runs that have begun may go on."""
